"""
The console: pages for people who look after tasks. ``app.register_blueprint(console(manager))`` puts it on.

The pages show and do nothing that the command line can't; both call the same functions.
"""

from gcp_oncetask.console.blueprint import console

__all__ = ["console"]
