"""What Prometheus and Grafana make of the metrics: recording rules, alerts, dashboards, as data. Pure."""
