"""Is an axis well made, and can it be measured on the model at hand?"""
