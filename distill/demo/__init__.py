"""A local page for a published student, served by the standard library.

page.html: the page
server: the page and its requests, over HTTP
session: the student, the last segmented images, and their views
"""
