"""A run's folder, identity and validity: a recipe made concrete, which every verb works on.

run: the `Run` that the verbs extract, train, evaluate and publish work on, and what it keeps of itself.
open_run: opening one: its data, the runs that make its teachers, the names of its caches and folder.
paths: names of caches and of the run's folder.
fingerprint: digests of a request and of its input files.
accelerator: Accelerate with the recipe's precision and trackers.
barrier: waiting for each other, however long the work of one process takes.
teacher_runs: the runs that make teachers: those that are missing, and the record of all.
steps: one step of a run, the teachers that are made before it, and what it took.
weights: the trained student, its tensors checked against their digests.
build: the student to train: fresh, with a pretrained encoder, or from a published one.
checks: what is refused before the first step.
caches: opening a run's caches, each checked to hold what is read of it.
leakage: weights to start from, and teachers, that were trained on what is held out here.
licences: licences of data, teachers and starting weights, and the licence of the student that follows.
latest: finding a run by folder, name or recipe, and the list of runs.
reproduce: the part of a recipe that may be published, and the command that runs it again.
"""
