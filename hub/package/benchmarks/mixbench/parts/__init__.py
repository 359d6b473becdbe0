# Written by hub/build.py from climb_opt: change it there.
