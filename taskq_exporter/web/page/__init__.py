"""The HTML of the page for people: functions of the overview; style, script and icon are files beside them."""
