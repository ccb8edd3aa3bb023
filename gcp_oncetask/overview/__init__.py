"""
A deployment at a glance, for command line and console alike: counts, due documents, schedules, workers, queues.
"""
