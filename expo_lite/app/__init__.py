"""The app's page: thin views over pure functions. Only `page` and the tabs import gradio (the extra `app`)."""
