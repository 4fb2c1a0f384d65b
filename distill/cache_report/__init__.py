"""The cost and fidelity of a cache, and sharing it.

report: contents, bytes and fidelity, from the cache alone
teacher_agreement: a cache against the live teacher on held-out images
rate_distortion: bytes against cosine, for the code and for simpler ways
plot: both as pictures
share: one folder for others
"""
