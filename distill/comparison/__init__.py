"""Comparison of the arms of a recipe, such as baseline and distilled, over seeds.

compare: the verb, from a plan to the result
plan: every run that a comparison may need, found once
runs: a run of a comparison, and the checks that it is fair to the others
launcher: missing runs, several at once, each in its own process
statistics: intervals over images and seeds, and one test of both
result: every arm against the first, with a verdict
scores_csv: scores.csv, the Dice of every image in every run
compare_files: comparisons of such tables, of runs made here or elsewhere
write: compare.json, compare.md
plot: compare.png
estimate: the dry run: steps and hours
"""
