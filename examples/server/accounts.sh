#!/bin/sh
# Users and groups, as root. On Debian Apache's user is www-data, on Red Hat apache.
set -eu

# A user for each site, and a page, so that a harmless request is answered 200.
for site in site1 site2; do
	getent passwd "$site" >/dev/null ||
		useradd --user-group --home-dir "/srv/www/$site" --no-create-home --shell /usr/sbin/nologin "$site"
	install -d -m 0750 -o "$site" -g "$site" "/srv/www/$site"
	[ -e "/srv/www/$site/index.html" ] || {
		echo "$site" > "/srv/www/$site/index.html"
		chown "$site:" "/srv/www/$site/index.html"
	}
done

# The group of the audit directories.
#   ModSecurity since 2.9.3: only who collects without being root. Its members can write in every
#     site's tree, so no site is in it; name the sites by site-user in config.toml.
#   ModSecurity up to 2.9.2: all sites, and Apache's user: usermod -aG weblogs site1
getent group weblogs >/dev/null || groupadd --system weblogs

# Who runs recidive; Debian's package has made it. It may read records by its unit's capability.
getent passwd recidive >/dev/null ||
	useradd --system --no-create-home --shell /usr/sbin/nologin recidive
