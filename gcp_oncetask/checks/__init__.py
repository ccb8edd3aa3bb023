"""
What user code hands over, checked: values, names, URLs, types of fields, arguments of classes.
"""
