"""Sources at run time: connections, followers, threads, failures, the targets of probes, reloading."""
