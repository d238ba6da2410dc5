"""The tab "Will it fit?": settings in; the memory plan and a forecast out."""
