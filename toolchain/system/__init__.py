"""What every other part stands on: files, processes, terminals, containers. Knows no pictures and no networks."""
