"""A run: a recipe with its data and folders, on which every verb works.

run: the `Run` on which extract, train, evaluate and publish work, and its state files.
open_run: opening a run: its data, the runs that make its teachers, the names of its caches and folder.
paths: names of caches and of the run's folder.
fingerprint: digests of a request and of its input files.
accelerator: Accelerate with the recipe's precision and trackers.
barrier: waiting for other processes, however long the work of one takes.
teacher_runs: the runs that make teachers: which are missing, and their record in a cache.
steps: one step of a run, the teachers made before it, and its cost.
weights: the trained student, its tensors checked against their digests.
build: the student to train: fresh, with a pretrained encoder, or from a published one.
checks: checks before the first step.
caches: opening a run's caches, with a check that each holds what the run reads.
leakage: starting weights and teachers that were trained on images held out here.
licences: licences of data, teachers and starting weights, and the resulting licence of the student.
latest: finding a run by folder, name or recipe, and the list of runs.
reproduce: the part of a recipe that may be published, and the command that runs it again.
"""
