"""The web server: a module for each group of routes, and the application that joins them."""
