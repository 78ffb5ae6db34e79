"""jaxinv: how much of its training data do a model's weights give away?"""
