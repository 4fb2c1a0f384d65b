"""General tools: files, threads, signals, progress, resizing, timing.

io: text and JSON files, written as a whole; errors on damaged ones say what to do.
mapped: arrays in temporary files.
tensor_files: safetensors files that hold the digest of their own content.
signals: SIGTERM and SIGINT, deferred while work is in progress, and their exit statuses.
collector: a pause of the search for reference cycles.
threads: cores and threads of this machine's processes.
hardware: processor, GPU and library versions, and whether bfloat16 is emulated.
freed_memory: memory that is freed and taken again at every step.
memory_format: channels last, except where torch's gradient is then wrong.
boxes: the box around the true pixels of a mask.
resize: the one bilinear resize with an antialiasing filter.
progress: a bar on a terminal, lines elsewhere.
timing: medians of interleaved runs, and rows of a table of figures.
issues: bad inputs, collected into one message.
"""
