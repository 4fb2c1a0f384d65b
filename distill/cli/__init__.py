"""The commands of the command line, one file each, and their common parts.

commands: the list of commands, and finding the one that a command line names
options: the arguments of a command, declared once for reading, errors and help
logs: messages on standard error and in the run's log.txt
messages: the first and the last lines of a run
dry_run: `--dry-run` of a run: images, GB and hours
run: `distill run`, `extract`, `train`, `evaluate`, `publish`
compare: `distill compare`
compare_scores: `distill compare scores=FILE,...`
predict: `distill predict`
adapt: `distill adapt`
calibrate: `distill calibrate`
demo: `distill demo`
doctor: `distill doctor`
onnx: `distill publish student=... onnx=FILE`
score: `distill evaluate predictions=DIR masks=DIR`
cache: `distill cache`
report: `distill report`
bench: `distill bench`
weights: `distill weights`
weights_check: its do=check
weights_fetch: its do=fetch
weights_selftest: its do=selftest
recipes: `distill recipes`
keys: `distill keys`
runs: `distill runs`
zoo: `distill zoo`
"""
