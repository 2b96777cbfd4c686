//! Virtual time, the event list, chance, links, disks and the trace. No word of Kubernetes here.
