"""
For the tests of applications: the pytest fixture ``oncetask_cloud`` (see ``cloud.OncetaskCloud``).
"""
