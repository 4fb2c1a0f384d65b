"""From a teacher to its cache: the verb `extract`.

extract: the verb, from the plan of each teacher to its written shards
plan: the records that are wanted from a teacher, and the images behind them
cache_state: the records that a cache folder lacks
cost: time, disk space and memory for the missing records
calibrate: a new cache: codecs fitted on calibration images, the manifest, the records of these images
teacher_inference: loading a teacher, and its forward pass over batches read ahead
encode: encoding maps during the forward pass, and writing shards
task_teacher: a published decoder as a teacher, and the cache of its soft masks
"""
