/** The tabs pattern: arrows, Home and End move; the address names the open tab, if that is shown. */
export function openTabs(list, onOpen) {
  const tabs = [...list.querySelectorAll("[role=tab]")];
  const panelOf = (tab) => document.getElementById(tab.getAttribute("aria-controls"));

  const open = (tab) => {
    for (const each of tabs) {
      const chosen = each === tab;
      each.setAttribute("aria-selected", String(chosen));
      each.tabIndex = chosen ? 0 : -1;
      panelOf(each).hidden = !chosen;
    }
    onOpen(panelOf(tab).id);
  };
  const fromAddress = () => tabs.find((tab) => !tab.hidden && `#${panelOf(tab).id}` === location.hash);
  const choose = (tab) => {
    history.replaceState(null, "", `#${panelOf(tab).id}`);
    open(tab);
    tab.scrollIntoView({ block: "nearest", inline: "nearest" });
  };

  for (const tab of tabs) tab.addEventListener("click", () => choose(tab));
  list.addEventListener("keydown", (event) => {
    const shown = tabs.filter((tab) => !tab.hidden);
    const at = shown.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: shown.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    const tab = shown[(to + shown.length) % shown.length];
    choose(tab);
    tab.focus();
  });
  addEventListener("hashchange", () => fromAddress() && open(fromAddress()));
  const follow = () => {
    const chosen = tabs.find((tab) => tab.getAttribute("aria-selected") === "true");
    const wanted = fromAddress() ?? (chosen.hidden ? tabs[0] : chosen);
    if (wanted !== chosen) open(wanted);
  };
  const watch = new MutationObserver(follow);
  for (const tab of tabs) watch.observe(tab, { attributeFilter: ["hidden"] });
  open(fromAddress() ?? tabs[0]);
}
