"""Do the implementations stay together in training?"""
