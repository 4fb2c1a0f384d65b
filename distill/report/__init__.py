"""report.html: one page about a run, readable without a network, scripts or this package.

write: when the page is written, and `distill report`
page: assembly of the sections
inputs: the files of a run from which the page is made
facts: settings, data, versions and terms in words
tables: every figure with its interval and its convention
charts: charts as inline SVG
curves: training as charts
cases: the best, median and worst test images
thumbnails: the pictures of the cases
features: the teacher's features, and a linear probe of the student
page.html.jinja: the template
style.css: its style sheet
"""
