"""
The console of the orders, on a service of its own. Served by gunicorn as ``examples.orders.console:app``.
"""

from flask import Flask

from gcp_oncetask import Locker
from gcp_oncetask.console import console
from gcp_oncetask.tasks import TaskManager

app = Flask(__name__)
app.register_blueprint(console(TaskManager(Locker.from_env())))
