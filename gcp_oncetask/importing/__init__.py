"""
Tasks of other systems, made once-tasks.

``translation``: one document of the Go library oncetask, as a once-task. ``go_oncetask``: all documents of a collection.
"""
