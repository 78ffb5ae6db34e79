"""launch.study: does a defence defend?"""
