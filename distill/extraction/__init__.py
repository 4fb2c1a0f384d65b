"""From a teacher to its cache: the verb `extract`.

extract: the verb, from the plan of each teacher to its written shards
plan: the records that are wanted of a teacher, and the images behind them
cache_state: what a cache folder holds of them
cost: time, disk and memory that the missing records take
calibrate: a new cache: codecs fitted on calibration images, the manifest, their records
teacher_inference: loading a teacher, and its forward pass over batches read ahead
encode: encoding maps beside the forward pass, and writing shards
task_teacher: a published decoder as a teacher, and the cache of its soft masks
"""
