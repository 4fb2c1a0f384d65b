"""The method: targets from the cache, projections, and the losses between them.

targets: bands of a teacher's maps at levels of the student's pyramid, and soft masks, as a recipe asks.
distiller: student and projections, the module that a training step runs.
dataset: training samples with their decoded targets.
loading: batches of samples, by worker processes or in this process.
device_targets: targets that a GPU decodes, for a whole batch at once.
shared_memory: the shared memory that workers need, and a timeout on waiting for them.
mean_teacher: predictions of the student's moving average on images without masks.
sampler: index batches, the same for any number of processes and restarts.
criterion: the loss terms of a stage.
losses: every term, as a pure function.
whole_batch: divisors of terms over processes and parts of a step.
feature_variance: variance and effective rank of projections, to detect a collapse.
"""
