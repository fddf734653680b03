"""The paper-like report: what the pipeline measured, as tables, figures and generated sentences."""
