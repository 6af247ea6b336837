"""Standing drills: what hostile clients, faulty neighbours and untimely signals may not break.

Each drill starts a service of its own, mistreats it for some seconds and checks promises.
`python -m drills --help` lists them; docs/reliability.md has what they found.
"""
