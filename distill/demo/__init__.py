"""A local page for a published student, by nothing but the standard library.

page.html: the page
server: the page and what it asks for, over HTTP
session: the student, the last images that were segmented, and views of them
"""
