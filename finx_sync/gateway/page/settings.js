// What the page remembers: the watch list, the sort order, the theme. The key stays in the tab's session only.

const STORE = "finx_sync";
const KEY = "finx_sync key";

function read() {
  try {
    const kept = JSON.parse(localStorage.getItem(STORE));
    return kept !== null && typeof kept === "object" ? kept : {};
  } catch {
    return {};
  }
}

const settings = read();

export function get(name, otherwise) {
  return name in settings ? settings[name] : otherwise;
}

export function set(name, value) {
  settings[name] = value;
  keep(() => localStorage.setItem(STORE, JSON.stringify(settings)));
}

function keep(store) {
  try {
    return store();
  } catch {
    return null; // A window without storage: what was chosen holds until it is closed.
  }
}

let apiKey = "";

export function getKey() {
  return apiKey;
}

export function setKey(value) {
  apiKey = value;
  keep(() => sessionStorage.setItem(KEY, value));
}

/** Take the key out of the address, where it would be seen, bookmarked and logged. */
export function readKeyFromAddress() {
  apiKey = keep(() => sessionStorage.getItem(KEY)) ?? "";
  const address = new URL(location.href);
  const given = address.searchParams.get("key");
  if (given !== null) {
    setKey(given);
    address.searchParams.delete("key");
    history.replaceState(null, "", address);
  }
}

const THEMES = ["system", "light", "dark"];

export function getTheme() {
  const theme = get("theme", "system");
  return THEMES.includes(theme) ? theme : "system";
}

export function nextTheme() {
  const theme = THEMES[(THEMES.indexOf(getTheme()) + 1) % THEMES.length];
  set("theme", theme);
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  return theme;
}
