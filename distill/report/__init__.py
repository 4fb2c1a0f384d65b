"""report.html: one page about a run, readable without a network, a script or this package.

write: when it is written, and `distill report`
page: its sections, each for itself
inputs: the files of a run that it is made of
facts: settings, data, versions and terms in words
tables: every figure with its interval and its convention
charts: charts as inline SVG
curves: training as charts
cases: the best, median and worst test images
thumbnails: their pictures
features: the teacher's features, and a linear probe of the student
page.html.jinja: the template
style.css: its style sheet
"""
