#!/bin/sh
# Makes guests of other origins in the folder $1, from the kernel and the root of the default guest.
set -eu
out=$1
mkdir -p "$out"
made=$("${PROVIUM:?names the provium executable}" setup)
base=$(echo "$made" | awk '$1 == "root" { print $2 }')
guest=$(dirname "$base")
cp "$guest/kernel" "$out/bzImage"
gzip -c "$base" > "$out/initrd.cpio.gz"

# A root folder: kernel, busybox by one name, and an init.
rm -rf "$out/root"
mkdir -p "$out/root/boot" "$out/root/bin" "$out/root/sbin" "$out/root/proc" "$out/root/dev" \
  "$out/root/sys" "$out/root/tmp" "$out/root/etc"
cp "$guest/kernel" "$out/root/boot/vmlinuz-0-test"
cp "$guest/busybox" "$out/root/bin/busybox"
ln -s busybox "$out/root/bin/sh"
cat > "$out/root/sbin/init" <<'INIT'
#!/bin/sh
busybox mount -t proc proc /proc
echo started > /tmp/init-ran
exec busybox sleep 1000000
INIT
chmod 755 "$out/root/sbin/init"

# A root that has a kernel and modules only, as an installed package leaves them.
modules="virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_console"
release=$(sed 's/.*"release":"\([^"]*\)".*/\1/' "$guest/modules.json")
ours="$out/kernel-root/usr/lib/modules/$release"
rm -rf "$out/kernel-root"
mkdir -p "$ours/kernel"
cp "$guest/kernel" "$ours/vmlinuz-$release"
for module in $modules; do
  place=$(grep -o "\"$module\":{\"place\":{[^}]*}" "$guest/modules.json")
  offset=$(echo "$place" | sed 's/.*"offset":\([0-9]*\).*/\1/')
  length=$(echo "$place" | sed 's/.*"length":\([0-9]*\).*/\1/')
  tail -c "+$((offset + 1))" "$guest/modules.pack" | head -c "$length" > "$ours/kernel/$module.ko"
done

# The folder of a kernel's build, as `make` leaves it.
build="$out/build"
rm -rf "$build"
mkdir -p "$build/arch/x86/boot" "$build/include/config" "$build/drivers/virtio"
cp "$guest/kernel" "$build/arch/x86/boot/bzImage"
echo "$release" > "$build/include/config/kernel.release"
for module in $modules; do
  cp "$ours/kernel/$module.ko" "$build/drivers/virtio"
  echo "drivers/virtio/$module.o" >> "$build/modules.order"
done

# pack NAME: an initrd of the folder $out/NAME, to which `fresh NAME` has given a shell.
fresh() {
  rm -rf "${out:?}/$1"
  mkdir -p "$out/$1/bin" "$out/$1/dev" "$out/$1/proc" "$out/$1/run"
  cp "$guest/busybox" "$out/$1/bin/busybox"
  ln -s busybox "$out/$1/bin/sh"
}
pack() {
  (cd "$out/$1" && find . | "$guest/busybox" cpio -o -H newc 2> "$out/$1.log") | gzip -1 > "$out/$1.cpio.gz"
}
# script NAME: the executable /init of that initrd, from standard input.
script() {
  cat > "$out/$1/init"
  chmod 755 "$out/$1/init"
}

# Inits that cannot be run.
fresh dangling
ln -s /gone "$out/dangling/init"
fresh directory
mkdir "$out/directory/init"
for name in dangling directory; do pack "$name"; done

# Images that bring the agent: as process 1 itself, under another name from an init, and in the
# background of one, late.
fresh agent-first
"$PROVIUM" agent "$out/agent-first/init"
pack agent-first

fresh agent-last
"$PROVIUM" agent "$out/agent-last/bin/server"
script agent-last <<'INIT'
#!/bin/sh
busybox mount -t proc proc /proc
busybox mount -t tmpfs devices /dev
busybox mknod /dev/null c 1 3
busybox touch /dev/kept
exec /bin/server
INIT
pack agent-last

fresh agent-late
"$PROVIUM" agent "$out/agent-late/bin/helper"
cp "$ours"/kernel/*.ko "$out/agent-late/bin"
script agent-late <<'INIT'
#!/bin/sh
busybox mount -t proc proc /proc
busybox mount -t devtmpfs dev /dev
for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_console; do
  busybox insmod "/bin/$module.ko"
done
cd /run
umask 077
ulimit -n 64
export LEFT=over
read -r fails < /proc/cmdline
case $fails in *halt_early*) busybox poweroff -f ;; esac
busybox sleep 2
echo stage two > /run/stage
busybox hostname own-name
/bin/helper 5< /init &
exec busybox sleep 1000000
INIT
pack agent-late
