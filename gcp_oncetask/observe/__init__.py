"""
Reports on the life of tasks: events, the evidence trail, log lines, spans, metrics and alerts.
"""
