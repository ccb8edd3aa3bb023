"""
The sweep: it attends to due documents that no delivery or worker attends to, collection by collection. It also sends
digests of alerts.
"""
