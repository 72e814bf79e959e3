"""Ring 2: data, teachers, training and evaluation around the model in `modeling_avt`; none of it travels with a
checkpoint."""
