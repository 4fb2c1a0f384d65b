"""Examining a data set before anyone trains on it.

examine: a data set examined, from its folders to its issues
inspect: reading each image and its mask once
hashes: hashes of images, and every pair of them that differs in few bits
duplicates: near copies, also mirrored: hashes propose, correlations decide
checks: from inspections to issues
issue_kinds: the kinds of issues, with severity, meaning and remedy
table: the printed table, and doctor.json
page: doctor.html
page.html.jinja: its template
"""
