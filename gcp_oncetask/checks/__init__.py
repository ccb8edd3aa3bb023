"""
Checks of the input of user code: values, names, URLs, types of fields, arguments of classes.
"""
