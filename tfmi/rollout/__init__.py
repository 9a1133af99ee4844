"""Before a new version takes over: how its answers, its speed and its vectors differ from those of the old one."""
