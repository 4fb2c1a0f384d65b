"""The commands that are typed: one file each, and what they share.

commands: the list of commands, and how a command line finds one
options: what a command takes, declared once: reading its words, their errors, its help
logs: what is told, on standard error and in the run's log.txt
messages: the first and the last lines of a run
dry_run: `--dry-run` of a run: images, GB and hours
run: `distill run`, `extract`, `train`, `evaluate`, `publish`
compare: `distill compare`
compare_scores: `distill compare scores=FILE,...`
predict: `distill predict`
adapt: `distill adapt`
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
