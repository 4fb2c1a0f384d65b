"""Benchmarks of sizes, rates and latencies, measured side by side in one run.

request: the available benchmarks, and a request for some of them
table: figures as Markdown and JSON
inputs: generated frames, drawn maps and random weights, or real ones
sizes: what=cache, and bytes of a cache
codebooks: product and residual quantisation of the same features, beside the cache's code
decoding: decoding a crop, against a pickle and a mapped file
extraction: extraction, against the bare forward pass
training: what=train, a step with cached targets, without targets, and with a live teacher
untrained: a training before its first step
delivery: the cost of a batch with targets to a loading process and the training one
teachers: what=teachers, every adapter against the bare official forward pass
scale: what=scale, lists, indexes and caches of very many images
students: what=student, in torch, as the exported file and as its int8 file
"""
