"""
The model that the process tests share with the application they serve.
"""

from gcp_oncetask import LockedModel


class Job(LockedModel, collection="jobs"):
    note: str = ""
