"""Where do models part, and why?"""
