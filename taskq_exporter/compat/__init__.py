"""The same numbers under the names and labels that users of other exporters have in their dashboards and alerts."""
