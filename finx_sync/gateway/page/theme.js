// Runs before the first paint, so that a chosen theme does not flash. The rest of the page is modules.
{
  let theme = null;
  try {
    theme = JSON.parse(localStorage.getItem("finx_sync"))?.theme;
  } catch {
    // No storage, or not ours: the system's theme.
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
}
