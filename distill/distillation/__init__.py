"""The method: targets from the cache, projections, and the losses that compare them.

targets: bands of a teacher's maps at levels of the student's pyramid, and soft masks, as a recipe asks.
distiller: student and projections, the module that a training step runs.
dataset: training samples with their decoded targets.
loading: batches of them, by processes of their own or in this one.
device_targets: targets that a GPU decodes, for a whole batch at once.
shared_memory: what workers need of it, and an end to waiting for them.
mean_teacher: what the student's moving average says of images without masks.
sampler: index batches, the same for any number of processes and restarts.
criterion: the loss terms of a stage.
losses: every term, a pure function.
whole_batch: divisors of terms over processes and parts of a step.
feature_variance: variance and effective rank of projections, by which a collapse is found.
"""
