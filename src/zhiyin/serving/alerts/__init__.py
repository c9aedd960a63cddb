"""Alerts on the service's own metrics: thresholds and anomalies, told to a webhook."""
