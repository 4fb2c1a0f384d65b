"""The training loop: a plan, a state, and the steps of every stage.

train: the loop, and one step of the optimiser.
plan: the data of a training: its run, open caches, stages in steps, and the checkpoint to continue from.
state: the objects that the loop works on, built from a plan and restored from its checkpoint.
parameters: groups of parameters, frozen parts, and the moving average of the weights.
gradient_share: the factor on imitation that holds its gradient at a share of that of the other terms.
log_losses: means of the loss terms, the variance of projections, and their logging.
validation: scores on the validation images, the best weights, and the early end of a stage.
checkpoint: the file from which a killed training continues.
jsonl_log: log.jsonl, written and read.
step_time: the time of a training step, from a short probe.
"""
