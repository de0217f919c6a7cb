"""Where models differ, stage by stage, and why."""
