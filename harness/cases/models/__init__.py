"""The model that a case names: its directory, its weights and their account.

Face: `loading.materialise` and `load_model`. May import: `system`, `cases.case`; torch and timm
inside functions only.
"""
