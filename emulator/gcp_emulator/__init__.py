"""
A local Google Cloud: real protocols on loopback, for unmodified Google clients.

Each service is a folder or file of its own and works alone; ``cloud.LocalCloud`` starts them together.
"""
