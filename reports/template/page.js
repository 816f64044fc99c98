(function(){
var root=document.documentElement,kept=null;
try{kept=localStorage.getItem("btcml-theme")}catch(e){}
if(kept){root.dataset.theme=kept}
document.addEventListener("DOMContentLoaded",function(){
document.getElementById("theme").addEventListener("click",function(){
var dark=root.dataset.theme?root.dataset.theme==="dark":matchMedia("(prefers-color-scheme: dark)").matches;
root.dataset.theme=dark?"light":"dark";
try{localStorage.setItem("btcml-theme",root.dataset.theme)}catch(e){}
});
});
})();
